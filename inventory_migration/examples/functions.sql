-- Chance, as a hash of key, stream and seed: the same seed makes the same data on any server.
CREATE FUNCTION pg_temp.draw(key bigint, stream text) RETURNS double precision
LANGUAGE sql STABLE AS $$
    SELECT (hashint8extended(key, hashtextextended(stream, current_setting('example.seed')::bigint))
            & 9007199254740991) / 9007199254740992.0::double precision
$$;
