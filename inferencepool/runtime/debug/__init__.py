"""A page that shows what a picker knows, and why it decided as it did. It is for the eyes of operators."""

from inferencepool.runtime.debug._decisions import DecisionLog, RecordedDecision
from inferencepool.runtime.debug._pages import DebugPages

__all__ = ["DebugPages", "DecisionLog", "RecordedDecision"]
