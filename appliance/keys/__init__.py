"""Where data keys come from: Vault or OpenBao, or a local keystore."""
