"""The writer: the only code that changes the status of invoices and the other ``WRITER_FIELDS``.

``rows``, on top of ``transactions``, is the base of its parts. The parts are ``claims`` (the exclusive right to send a
request), ``requests`` (requested cancellations), ``answers`` (replies to cancel requests), ``observations`` (statuses
reported from outside), ``decisions`` of users, ``registering`` (new invoices) and ``provider_state`` (pauses and
rates). ``notices`` are the signals.
"""

from .answers import AnswerWriter
from .decisions import DecisionWriter
from .observations import ObservationWriter
from .registering import RegistrationWriter
from .requests import RequestWriter


class InvoiceWriter(
    RequestWriter,  # and ClaimWriter, ProviderStateWriter
    AnswerWriter,
    ObservationWriter,
    DecisionWriter,
    RegistrationWriter,
):
    """Writes the invoices, their log and the state of providers in one database."""
