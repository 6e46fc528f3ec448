"""Views that a real site has: a page, an upload form behind CSRF protection, a download, a stream."""

import hashlib

from django.http import FileResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render

from .models import Document


def index(request):
    return render(request, "documents/index.html", {"documents": Document.objects.order_by("pk")})


def upload(request):
    file = request.FILES["file"]
    checksum = hashlib.sha256()
    for block in file.chunks():
        checksum.update(block)
    document = Document.objects.create(title=request.POST["title"], file=file)
    return JsonResponse({"key": document.pk, "length": file.size, "sha256": checksum.hexdigest()})


def download(request, key):
    document = get_object_or_404(Document, pk=key)
    return FileResponse(document.file.open("rb"), as_attachment=True, filename=document.title)


def stream(request):
    return StreamingHttpResponse((f"line {number}\n" for number in range(1000)), content_type="text/plain")


def facts(request):
    return JsonResponse(
        {
            "secure": request.is_secure(),
            "host": request.get_host(),
            "url": request.build_absolute_uri(),
            "client": request.META["REMOTE_ADDR"],
            "protocol": request.META.get("SERVER_PROTOCOL", request.scope["http_version"] if hasattr(request, "scope") else None),
        }
    )


def broken(request):
    raise RuntimeError("raised on purpose")
