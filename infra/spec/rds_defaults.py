"""The defaults of Postgres 15's dynamic parameters, in RDS's form. A parameter group reports a parameter whose value is
the default in another way than it was sent: infra.spec.rds.apply_method.
"""

from __future__ import annotations

# From pg_settings.boot_val: tests/integration/roles compares them. Names are in lower case, as RDS has them.
_POSTGRES = """
intervalstyle=postgres timezone=GMT allow_in_place_tablespaces=0 allow_system_table_mods=0 archive_timeout=0
array_nulls=1 authentication_timeout=60 autovacuum=1 autovacuum_analyze_scale_factor=0.1
autovacuum_analyze_threshold=50 autovacuum_naptime=60 autovacuum_vacuum_cost_delay=2
autovacuum_vacuum_cost_limit=-1 autovacuum_vacuum_insert_scale_factor=0.2
autovacuum_vacuum_insert_threshold=1000 autovacuum_vacuum_scale_factor=0.2 autovacuum_vacuum_threshold=50
autovacuum_work_mem=-1 backend_flush_after=0 backslash_quote=safe_encoding bgwriter_delay=200
bgwriter_flush_after=64 bgwriter_lru_maxpages=100 bgwriter_lru_multiplier=2 bytea_output=hex
check_function_bodies=1 checkpoint_completion_target=0.9 checkpoint_flush_after=32 checkpoint_timeout=300
checkpoint_warning=30 client_connection_check_interval=0 client_encoding=SQL_ASCII client_min_messages=notice
commit_delay=0 commit_siblings=5 composite_type_mismatch=error compute_query_id=auto
constraint_exclusion=partition cpu_index_tuple_cost=0.005 cpu_operator_cost=0.0025 cpu_tuple_cost=0.01
cursor_tuple_fraction=0.1 db_user_namespace=0 deadlock_timeout=1000 debug_discard_caches=0 debug_pretty_print=1
debug_print_parse=0 debug_print_plan=0 debug_print_rewritten=0 default_statistics_target=100
default_table_access_method=heap default_text_search_config=pg_catalog.simple default_toast_compression=pglz
default_transaction_deferrable=0 default_transaction_read_only=0 dynamic_library_path=$libdir
effective_cache_size=524288 enable_async_append=1 enable_bitmapscan=1 enable_gathermerge=1 enable_hashagg=1
enable_hashjoin=1 enable_incremental_sort=1 enable_indexonlyscan=1 enable_indexscan=1 enable_material=1
enable_memoize=1 enable_mergejoin=1 enable_nestloop=1 enable_parallel_append=1 enable_parallel_hash=1
enable_partition_pruning=1 enable_partitionwise_aggregate=0 enable_partitionwise_join=0 enable_seqscan=1
enable_sort=1 enable_tidscan=1 escape_string_warning=1 exit_on_error=0 extra_float_digits=1
force_parallel_mode=off from_collapse_limit=8 geqo=1 geqo_effort=5 geqo_generations=0 geqo_pool_size=0
geqo_seed=0 geqo_selection_bias=2 geqo_threshold=12 gin_fuzzy_search_limit=0 gin_pending_list_limit=4096
hash_mem_multiplier=2 hot_standby_feedback=0 idle_in_transaction_session_timeout=0 idle_session_timeout=0
ignore_checksum_failure=0 ignore_system_indexes=0 jit=1 jit_above_cost=100000 jit_debugging_support=0
jit_dump_bitcode=0 jit_expressions=1 jit_inline_above_cost=500000 jit_optimize_above_cost=500000
jit_profiling_support=0 jit_tuple_deforming=1 join_collapse_limit=8 krb_caseins_users=0
krb_server_keyfile=FILE:/etc/postgresql-common/krb5.keytab lc_monetary=C lc_numeric=C lc_time=C
lo_compat_privileges=0 lock_timeout=0 log_autovacuum_min_duration=600000 log_checkpoints=1 log_connections=0
log_directory=log log_disconnections=0 log_duration=0 log_error_verbosity=default log_executor_stats=0
log_file_mode=384 log_filename=postgresql-%Y-%m-%d_%H%M%S.log log_hostname=0 log_lock_waits=0
log_min_duration_sample=-1 log_min_duration_statement=-1 log_min_error_statement=error log_min_messages=warning
log_parameter_max_length=-1 log_parameter_max_length_on_error=0 log_parser_stats=0 log_planner_stats=0
log_recovery_conflict_waits=0 log_replication_commands=0 log_rotation_age=1440 log_rotation_size=10240
log_startup_progress_interval=10000 log_statement=none log_statement_sample_rate=1 log_statement_stats=0
log_temp_files=-1 log_transaction_sample_rate=0 log_truncate_on_rotation=0 logical_decoding_work_mem=65536
maintenance_io_concurrency=10 maintenance_work_mem=65536 max_parallel_maintenance_workers=2
max_parallel_workers=8 max_parallel_workers_per_gather=2 max_pred_locks_per_page=2
max_pred_locks_per_relation=-2 max_slot_wal_keep_size=-1 max_stack_depth=100 max_standby_archive_delay=30000
max_standby_streaming_delay=30000 max_sync_workers_per_subscription=2 max_wal_size=1024
min_parallel_index_scan_size=64 min_parallel_table_scan_size=1024 min_wal_size=80
parallel_leader_participation=1 parallel_setup_cost=1000 parallel_tuple_cost=0.1
password_encryption=scram-sha-256 pg_stat_statements.save=1 pg_stat_statements.track=top
pg_stat_statements.track_planning=0 pg_stat_statements.track_utility=1 plan_cache_mode=auto post_auth_delay=0
pre_auth_delay=0 quote_all_identifiers=0 random_page_cost=4 recovery_init_sync_method=fsync
recovery_min_apply_delay=0 recovery_prefetch=try recursive_worktable_factor=10 remove_temp_files_after_crash=1
restart_after_crash=1 row_security=1 seq_page_cost=1 session_replication_role=origin ssl_ecdh_curve=prime256v1
ssl_min_protocol_version=TLSv1.2 ssl_passphrase_command_supports_reload=0 ssl_prefer_server_ciphers=1
standard_conforming_strings=1 statement_timeout=0 stats_fetch_consistency=cache synchronize_seqscans=1
synchronous_commit=on syslog_facility=local0 syslog_ident=postgres syslog_sequence_numbers=1
syslog_split_messages=1 tcp_keepalives_count=0 tcp_keepalives_idle=0 tcp_keepalives_interval=0
tcp_user_timeout=0 temp_buffers=1024 temp_file_limit=-1 trace_notify=0 trace_recovery_messages=log trace_sort=0
track_activities=1 track_counts=1 track_functions=none track_io_timing=0 track_wal_io_timing=0
transaction_deferrable=0 transaction_read_only=0 transform_null_equals=0 update_process_title=1
vacuum_cost_delay=0 vacuum_cost_limit=200 vacuum_cost_page_dirty=20 vacuum_cost_page_hit=1
vacuum_cost_page_miss=2 vacuum_defer_cleanup_age=0 vacuum_failsafe_age=1600000000 vacuum_freeze_min_age=50000000
vacuum_freeze_table_age=150000000 vacuum_multixact_failsafe_age=1600000000
vacuum_multixact_freeze_min_age=5000000 vacuum_multixact_freeze_table_age=150000000 wal_init_zero=1
wal_keep_size=0 wal_receiver_create_temp_slot=0 wal_receiver_status_interval=10 wal_receiver_timeout=60000
wal_recycle=1 wal_retrieve_retry_interval=5000 wal_sender_timeout=60000 wal_skip_threshold=2048
wal_sync_method=fdatasync wal_writer_delay=200 wal_writer_flush_after=128 work_mem=4096 xmlbinary=base64
xmloption=content zero_damaged_pages=0
"""

# Where RDS's default for postgres15 is documented or reported to differ. The values of Postgres stay in the table: a
# parameter that is in it by mistake only takes effect later.
_RDS = {
    # https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/PostgreSQL.Concepts.General.SSL.html: 1 since version 15.
    "rds.force_ssl": "1",
    "timezone": "UTC",
    "track_io_timing": "1",
    "track_functions": "pl",
    "idle_in_transaction_session_timeout": "86400000",
    "log_autovacuum_min_duration": "10000",
    "tcp_keepalives_idle": "300",
    "tcp_keepalives_interval": "30",
    "tcp_keepalives_count": "2",
    "autovacuum_vacuum_scale_factor": "0.1",
    "autovacuum_analyze_scale_factor": "0.05",
    "autovacuum_naptime": "15",
    "wal_receiver_timeout": "30000",
    "wal_sender_timeout": "30000",
    "vacuum_cost_page_miss": "5",
}

POSTGRES = dict(pair.split("=", 1) for pair in _POSTGRES.split())


def is_default(name: str, value: str) -> bool:
    """Return whether a value, in RDS's form, may be the default of the parameter in RDS's family postgres15."""
    return value in (POSTGRES.get(name.lower()), _RDS.get(name.lower()))
