# What a node may do in Vault or OpenBao: make keys that are derived, use them, renew its own token.
# Configuring, rotating and deleting keys belongs to a custodian's short-lived token.
# `update` on a key that exists changes nothing: its settings have a path of their own.
path "transit/keys/+" {
  capabilities = ["create", "update", "read"]
  allowed_parameters = { "derived" = [true, "true"] }
  required_parameters = ["derived"]
}
path "transit/datakey/plaintext/+" { capabilities = ["update"] }
path "transit/decrypt/+" { capabilities = ["update"] }
path "transit/rewrap/+" { capabilities = ["update"] }
path "auth/token/renew-self" { capabilities = ["update"] }
