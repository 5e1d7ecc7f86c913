"""What groundwork consists of (`make sbom`), and whether vulnerabilities of it are known (`make audit`)."""
