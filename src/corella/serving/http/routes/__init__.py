"""Version 1 of the API, a file for what belongs together."""

from fastapi import APIRouter

from corella.serving.http.routes import events, items, operators, people, recommending, scoring

router = APIRouter()
"""For everybody with a key."""
for part in (scoring, recommending, events, items, people, operators):
    router.include_router(part.router)
