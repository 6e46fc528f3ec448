"""Addresses of the site."""

from django.contrib import admin
from django.urls import path
from documents import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", views.index),
    path("upload", views.upload),
    path("documents/<int:key>", views.download),
    path("stream", views.stream),
    path("facts", views.facts),
    path("broken", views.broken),
]
