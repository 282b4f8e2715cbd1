"""Cancel one invoice in a child process that dies at a given point. Arguments: sandbox URL, external id, point."""

import os
import sys

import django


def main(base_url, external_id, point):
    django.setup()
    from django.conf import settings

    from django_invoice_cancel.models import Invoice
    from django_invoice_cancel.models.writes.rows import RowWriter
    from django_invoice_cancel.services import cancel

    options = {"base_url": base_url, "api_key": "sandbox-cryptocloud-key"}
    settings.INVOICE_CANCEL["PROVIDERS"]["cryptocloud"]["OPTIONS"] = options
    appended = []

    def die(*args, **kwargs):
        os._exit(9)

    def append(self, entries):
        rows_append(self, entries)
        appended.append(entries)
        if point == ("in the claim", "in the record")[len(appended) - 1]:
            die()

    def submit(*args):
        if point == "after the claim":
            die()
        answer = real_submit(*args)
        if point == "after the answer":
            die()
        return answer

    rows_append, RowWriter.append = RowWriter.append, append
    real_submit, cancel.submit = cancel.submit, submit
    if point == "after the record":
        cancel.result_of_answer = die
    Invoice.objects.get(external_id=external_id).cancel()


if __name__ == "__main__":
    main(*sys.argv[1:])
