"""The table of the shop before it used django_invoice_cancel, and what it shows since then."""

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Order",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.CharField(max_length=20, unique=True, verbose_name="number")),
                ("title", models.CharField(max_length=100, verbose_name="item")),
                ("total", models.DecimalField(decimal_places=2, max_digits=12, verbose_name="total")),
                ("currency", models.CharField(default="USD", max_length=3, verbose_name="currency")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("open", "Awaiting payment"),
                            ("partially_paid", "Partially paid"),
                            ("paid", "Paid"),
                            ("expired", "Expired"),
                            ("failed", "Payment failed"),
                            ("canceled", "Canceled"),
                        ],
                        default="open",
                        max_length=16,
                        verbose_name="state",
                    ),
                ),
                (
                    "refund_due",
                    models.BooleanField(
                        default=False,
                        help_text="A payment arrived that the order does not need.",
                        verbose_name="refund due",
                    ),
                ),
                ("placed_at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="placed")),
                (
                    "cryptocloud_uuid",
                    models.CharField(blank=True, max_length=40, verbose_name="invoice at CryptoCloud"),
                ),
                (
                    "firekassa_invoice_id",
                    models.CharField(blank=True, max_length=19, verbose_name="invoice at FireKassa"),
                ),
                ("note", models.CharField(blank=True, max_length=200, verbose_name="note for the staff")),
                (
                    "customer",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="orders",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="customer",
                    ),
                ),
            ],
            options={
                "verbose_name": "order",
                "verbose_name_plural": "orders",
                "ordering": ("-placed_at", "-number"),
            },
        ),
    ]
