"""Wrong parameters and damaged files: what is said, and what stays as it was."""

from __future__ import annotations

from project import Project, stages_run


def test_wrong_parameters_are_all_named_before_anything_is_computed(
    project: Project, finished: Project
):
    before = project.artifacts()
    correct = (project.folder / "params.yaml").read_text()
    project.set(
        {
            "finetune.lr": 0.1,
            "finetune.epochs": -3,
            "quantization.target_bits": 7,
            "evaluation.batch_size": "many",
            "synthesis.num_image": 64,
        }
    )
    output = project("dvc", "repro", fails=True)
    for key in (
        "finetune.lr",
        "finetune.epochs",
        "quantization.target_bits",
        "evaluation.batch_size",
    ):
        assert f"{key}" in output
    assert "synthesis.num_image" in output and "num_images" in output
    assert "Traceback" not in output
    assert stages_run(output) == ["check"]
    assert project.scratch() == [] and project.artifacts() == before

    (project.folder / "params.yaml").write_text(correct)
    assert stages_run(project("dvc", "repro")) == []
    assert project.artifacts() == finished.artifacts()


def test_an_altered_shard_is_named_and_can_be_restored(project: Project, finished: Project):
    path = project.folder / "artifacts/synthetic/shard-00000.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    path.write_bytes(content)
    output = project("python", "-m", "stages.finetune", fails=True)
    assert (
        "shard-00000.safetensors has been altered or truncated" in output
        and "dvc checkout" in output
    )
    assert "Traceback" not in output
    project("dvc", "checkout", "--force")
    assert project.artifacts() == finished.artifacts()
