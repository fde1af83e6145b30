"""What the API has beside OpenMeter's resources: events on their way in, an account at a glance, and running it."""
