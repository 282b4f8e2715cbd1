"""Plain Python without Django: statuses, outcomes, claims, the audit context of a change, secrets."""
