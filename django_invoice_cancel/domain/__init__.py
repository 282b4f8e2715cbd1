"""Plain Python without Django: statuses, outcomes, claims, who caused a change and why, secrets."""
