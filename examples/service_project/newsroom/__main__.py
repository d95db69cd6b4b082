"""Serve: `python -m newsroom`."""

import uvicorn

from newsroom.service import app

uvicorn.run(app, port=8000)
