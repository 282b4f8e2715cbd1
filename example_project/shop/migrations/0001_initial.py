"""The table of the shop before it used django_invoice_cancel."""

import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Order",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.CharField(max_length=20, unique=True)),
                ("title", models.CharField(max_length=100)),
                ("total", models.DecimalField(decimal_places=2, max_digits=12)),
                ("currency", models.CharField(default="USD", max_length=3)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("open", "Awaiting payment"),
                            ("paid", "Paid"),
                            ("canceled", "Canceled"),
                            ("late_money", "Paid after cancellation"),
                        ],
                        default="open",
                        max_length=16,
                    ),
                ),
                ("placed_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("cryptocloud_uuid", models.CharField(blank=True, max_length=40)),
                ("firekassa_invoice_id", models.CharField(blank=True, max_length=19)),
                ("note", models.CharField(blank=True, max_length=200)),
            ],
            options={
                "ordering": ("-placed_at", "-number"),
            },
        ),
    ]
