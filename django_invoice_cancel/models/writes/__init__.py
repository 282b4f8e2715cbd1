"""The writer: the only code that changes the status and bookkeeping of invoices.

``rows`` is the base of its parts, on ``transactions``. The parts are ``claims`` (the sole right to
submit), ``requests`` (requested cancellations), ``answers`` (replies to cancel requests), ``observations`` (statuses
learned from outside), ``decisions`` of people, ``registering`` (new invoices) and ``provider_state`` (pauses and
rates). ``notices`` are the signals.
"""

from .answers import AnswerWriter
from .decisions import DecisionWriter
from .observations import ObservationWriter
from .provider_state import ProviderStateWriter
from .registering import RegistrationWriter
from .requests import RequestWriter


class InvoiceWriter(
    RequestWriter,  # and ClaimWriter
    AnswerWriter,
    ObservationWriter,
    DecisionWriter,
    RegistrationWriter,
    ProviderStateWriter,
):
    """Writes the invoices, their log and the state of providers in one database."""
