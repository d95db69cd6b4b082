"""`python -m agentflow._cli`, where the program is not on the path."""

from agentflow._cli import main

if __name__ == "__main__":
    main()
