-- A Prosody that serves nothing but mod_profiles, over plain HTTP. The environment says where:
--   PORT      to listen at, on the loopback
--   DIR       a folder of its own
--   PLUGINS   the folder of mod_profiles.lua
--   REDIS     the URL of the Redis that processes share
--   PROFILES  the URL of the server that has the profiles
--   AS_ROOT   "yes": may run as root, for a try in a container
run_as_root = ENV_AS_ROOT == "yes"
pidfile = ENV_DIR .. "/prosody.pid"
data_path = ENV_DIR
certificates = ENV_DIR -- there are none
log = { info = "*console" }
plugin_paths = { ENV_PLUGINS }
modules_disabled = { "c2s", "s2s", "offline" }
http_ports = { ENV_PORT }
http_interfaces = { "127.0.0.1" }
https_ports = {}
http_default_host = "localhost"

VirtualHost "localhost"
    modules_enabled = { "profiles" }
    profiles_redis = ENV_REDIS
    profiles_source = ENV_PROFILES
