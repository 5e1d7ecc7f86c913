"""Bills of materials (`make sbom`), and the search for known vulnerabilities (`make audit`)."""
