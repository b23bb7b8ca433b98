"""What happens to the work: plain Python over `sqlalchemy.orm`, no await, no framework."""
