"""The report: figures, tables and one page, made from what the other stages measured."""

from dynadfq.report.render import write_report

__all__ = ["write_report"]
