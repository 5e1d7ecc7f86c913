"""What is measured, when somebody is to be told, and how it is drawn: files, and what reads them."""
