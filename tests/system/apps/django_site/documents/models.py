"""One model, so that the admin has something to manage."""

from django.db import models


class Document(models.Model):
    title = models.CharField(max_length=100)
    file = models.FileField(upload_to="documents")
    created = models.DateTimeField(auto_now_add=True)

    def __str__(self):
        return self.title
