-- SPDX-License-Identifier: MIT
--
-- events_policy.lua - products of a shop, void once whoever changes them says so: see events.lua,
-- and for a database that says it by itself postgres_events.sql and postgres_bridge.c.

cache.rule "product:{id}" { ttl = "1h", tags = { "products" } }
cache.rule "shop:{shop}" { ttl = "1h" }

cache.on "product.changed" { keys = { "product:{id}", "shop:{shop}" } }
cache.on "products.imported" { tags = { "products" } }

cache.events { stream = "shop:events", channel = "shop-events", idle = "10s" }
