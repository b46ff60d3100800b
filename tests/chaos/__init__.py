"""Pictures stream while everything is killed; nothing acknowledged may be missing."""
