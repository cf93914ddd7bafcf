---@meta perilune.sql

-- Databases over LuaSQL, and results of queries in the cache -----------------------------------

---@class perilune.SqlOptions
---@field timeout? perilune.Duration Of a statement; for SQLite, of the wait for a lock; default "2s".
---@field connect_timeout? perilune.Duration Default "2s".
---@field prepare? string[] Statements for each new connection.
---@field name? string Tells results of one database from those of another in one namespace.

---@class perilune.SqlMapping
---@field table string
---@field key string|string[] Columns, in the order of the names in `from`.
---@field from string A key's form, as "user:{id}".
---@field columns? string|string[]
---@field version? string A column.
---@field bytes? string|string[] A store's: columns of bytes.

---@alias perilune.SqlValue string|number|boolean|table|nil
---@alias perilune.SqlRow table<string, string|number|boolean>

---@class perilune.sql
local sql = {}

---@param driver "sqlite3"|"postgres"
---@param source string
---@param options? perilune.SqlOptions
---@return perilune.Database
function sql.open(driver, source, options) end

---@param connection userdata|perilune.Database
---@return perilune.Database
function sql.of(connection) end

---@param bytes string
---@return table
function sql.blob(bytes) end

---@class perilune.Database
local Database = {}

---@param text string
---@param args? perilune.SqlValue[]
---@return perilune.SqlRow[]? rows
---@return string? err
---@return "unknown"? code
function Database:query(text, args) end

---@param text string
---@param args? perilune.SqlValue[]
---@return integer? n
---@return string? err
---@return "unknown"? code
function Database:exec(text, args) end

---@param value perilune.SqlValue
---@return string? text
---@return string? err
function Database:quote(value) end

---@param f fun(db: perilune.Database): ...
---@return any results
---@return string? err
---@return "unknown"? code
function Database:transaction(f) end

---@param f function
function Database:after(f) end

---@return boolean
function Database:in_transaction() end

---@param name string
---@param rows perilune.SqlRow[]
---@param options {key: string|string[], columns?: string|string[], version?: string}
---@return integer? n
---@return string? err
---@return "unknown"? code
function Database:upsert(name, rows, options) end

---@param name string
---@param key string|string[]
---@param keys perilune.SqlValue[]
---@param options? {version: string}
---@return integer? n
---@return string? err
---@return "unknown"? code
function Database:delete(name, key, keys, options) end

---@param mapping perilune.SqlMapping
---@return fun(key: string, m: table): perilune.Value, string? load
---@return fun(keys: string[], ms: table[]): table?, string? load_many
function Database:loader(mapping) end

---@param mapping perilune.SqlMapping
---@return function store
function Database:store(mapping) end

---@return true done
function Database:close() end

---@class perilune.Cache
local Cache = {}

---@param connection perilune.Database|userdata
---@param text string
---@param args? perilune.SqlValue[]
---@param options? perilune.GetOptions With `tags` as names of tables.
---@return perilune.SqlRow[]? rows
---@return string? err
---@return perilune.How|perilune.Code how
function Cache:query(connection, text, args, options) end

---@param connection perilune.Database|userdata
---@param text string
---@param args? perilune.SqlValue[]
---@param options? {tags: string[]}
---@return integer? n
---@return string? err
---@return perilune.Code|"unknown"|nil code
function Cache:execute(connection, text, args, options) end

---@param ... string Names of tables.
---@return true? done
---@return string? err
---@return perilune.Code? code
function Cache:changed(...) end
