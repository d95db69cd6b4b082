"""The peers' virtual environments: made at their first use, one for each, beside this file and ignored by git."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

DIRECTORY = Path(__file__).parents[1] / ".environments"

REQUIREMENTS = {
    "diskcache": ["diskcache==5.6.3", "pydantic==2.14.3"],
    "joblib": ["joblib==1.6.0", "pydantic==2.14.3"],
    "langgraph": ["langgraph==1.2.22", "langgraph-checkpoint-sqlite==3.1.2"],
    "dbos": ["dbos==3.4.0"],
    "prefect": ["prefect==3.8.8", "fastapi==0.141.1"],  # the newest fastapi breaks its server
    "plots": ["matplotlib==3.11.2"],
}


def python_of(name: str) -> str:
    """Return the interpreter of an environment, after making it if need be; agentflow's own is the running one."""
    if name == "agentflow":
        return sys.executable
    wanted = json.dumps(REQUIREMENTS[name])
    made = DIRECTORY / name / "made.json"
    python = DIRECTORY / name / "bin" / "python"
    if not made.exists() or made.read_text() != wanted:
        print(f"making an environment for {name}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(DIRECTORY / name)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *REQUIREMENTS[name]], check=True)
        made.write_text(wanted)
    return str(python)


def version_of(name: str) -> str:
    """Return the versions that an environment has of what it was made for."""
    return ", ".join(
        requirement.replace("==", " ") for requirement in REQUIREMENTS.get(name, []) if "pydantic" not in requirement
    )
