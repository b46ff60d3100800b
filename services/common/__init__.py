"""What two or more services use; it imports none of them."""
