from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Airport",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("icao", models.CharField(max_length=4, unique=True)),
                ("iata", models.CharField(blank=True, max_length=3)),
                ("name", models.CharField(max_length=100)),
                ("city", models.CharField(max_length=100)),
                ("country", models.CharField(max_length=2)),
                ("elevation", models.IntegerField(help_text="In feet.")),
                ("latitude", models.FloatField()),
                ("longitude", models.FloatField()),
                ("timezone", models.CharField(max_length=50)),
            ],
        ),
        migrations.CreateModel(
            name="CallbackCall",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("batch_id", models.UUIDField(db_index=True)),
                ("role", models.CharField(max_length=20)),
                ("called_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
    ]
