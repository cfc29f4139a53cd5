"""The experiments that explain the audit: small networks trained with a part taken away, and measured."""
