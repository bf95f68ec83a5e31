"""DiSF over a corpus on disk: `replicate select`, and the function behind it."""

from replication.disf.corpus.batch import select_rows
from replication.disf.corpus.errors import CorpusError
from replication.disf.corpus.inputs import Progress
from replication.disf.corpus.pipeline import Selected, select_corpus

__all__ = ["CorpusError", "Progress", "Selected", "select_corpus", "select_rows"]
