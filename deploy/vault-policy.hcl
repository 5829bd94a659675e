# What a node may do in Vault or OpenBao: make keys that are derived, use them, renew its own token.
# Configuring, rotating and deleting keys belongs to a custodian's short-lived token.
path "transit/keys/+" {
  capabilities = ["create", "read"]
  allowed_parameters = { "derived" = [true], "type" = ["aes256-gcm96"] }
  required_parameters = ["derived"]
}
path "transit/datakey/plaintext/+" { capabilities = ["update"] }
path "transit/decrypt/+" { capabilities = ["update"] }
path "transit/rewrap/+" { capabilities = ["update"] }
path "auth/token/renew-self" { capabilities = ["update"] }
