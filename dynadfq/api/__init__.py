"""The public functions and classes of dynadfq."""

from __future__ import annotations

from dynadfq.api.images import synthesize as synthesize
from dynadfq.api.student import bit_flops as bit_flops
from dynadfq.api.student import quantize as quantize
from dynadfq.api.training import finetune as finetune
from dynadfq.deploy.quantize_model import QuantizedModel as QuantizedModel
from dynadfq.deploy.quantize_model import quantize_model as quantize_model
from dynadfq.evaluation.card import write_card as write_card
from dynadfq.evaluation.evaluate import Evaluation as Evaluation
from dynadfq.evaluation.evaluate import evaluate as evaluate
from dynadfq.export.integer_form import to_integer_form as to_integer_form
from dynadfq.export.onnx_export import export_onnx as export_onnx
from dynadfq.export.program import export_program as export_program
from dynadfq.export.qdq import export_qdq as export_qdq
from dynadfq.quant.build import load_student as load_student
from dynadfq.quant.model import Student as Student
from dynadfq.synthesis.dataset import SyntheticSet as SyntheticSet
from dynadfq.teacher.loading import load_teacher as load_teacher
from dynadfq.teacher.similarity import class_similarity as class_similarity
from dynadfq.teacher.teacher import Teacher as Teacher
