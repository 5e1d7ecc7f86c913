"""The documentation as a site: what `make docs` needs besides docs/ and mkdocs.yml."""
