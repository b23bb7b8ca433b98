"""What is MySQL's and MariaDB's own."""
