"""How well a model retrieves on somebody's own data: `evaluate`, and `python -m jinaclip evaluate`."""

from jinaclip.evaluation.run import Choice, Evaluation, evaluate
from jinaclip.evaluation.tables import Score, Table

__all__ = ["Choice", "Evaluation", "Score", "Table", "evaluate"]
