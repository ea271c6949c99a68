"""The policy: the one artefact that everything after training reads, with NumPy alone."""

from upright.policy.policy import Policy as Policy
from upright.policy.policy import load_policy as load_policy
from upright.policy.provenance import Provenance as Provenance
from upright.policy.provenance import Score as Score
