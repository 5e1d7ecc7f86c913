"""What is alike on Docker and AWS, what is not, and why: plain data, of which docs/parity.md is rendered.

Each setting, each parameter and each property that security or operations rest on has an entry; a test asks for them.
"""
