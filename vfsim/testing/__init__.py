"""What people import in their tests."""
