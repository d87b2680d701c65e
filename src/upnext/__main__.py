"""`python -m upnext` is the command line."""

from upnext.cli import main

if __name__ == "__main__":
    main()
