"""The model in the admin."""

from django.contrib import admin

from .models import Document

admin.site.register(Document, list_display=["title", "created"])
