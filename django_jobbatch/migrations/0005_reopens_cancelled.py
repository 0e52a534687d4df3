"""A finished child batch keeps how the retry was meant that will reopen it."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("django_jobbatch", "0004_rest"),
    ]

    operations = [
        migrations.AddField(
            model_name="jobbatch",
            name="reopens_cancelled",
            field=models.BooleanField(
                default=False, editable=False, verbose_name="reopens cancelled"
            ),
        ),
    ]
