"""Balances in Redis or Valkey, for reads at gateway speed."""
