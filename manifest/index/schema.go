package index

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"

	"davit/internal/durable"
)

// migrations are run in order and never changed once released.
//
//go:embed migrations/*.sql
var migrations embed.FS

const (
	schemaVersion = 1          // number of the last migration
	applicationID = 1684108905 // "davi", set by the first migration
	readers       = 4          // connections that read; one more writes
)

// Every pragma, and why. journal_mode=WAL stands in migrate: it is kept in the
// file, and switching to it wants the file alone.
var (
	commonPragmas = []string{
		"busy_timeout(30000)", // wait for another process's transaction rather than fail
		"trusted_schema(0)",   // a schema that was tampered with cannot call functions
		"cell_size_check(1)",  // damage is reported, not followed
	}
	writerPragmas = append([]string{
		"synchronous(FULL)",        // what was committed survives a power cut
		"wal_autocheckpoint(4000)", // 16 MiB: hot pages are copied back once for many packs, not once for each
		"cache_size(-16000)",       // 16 MB: inserts by hash touch pages all over
	}, commonPragmas...)
	readerPragmas = append([]string{
		"query_only(1)",     // a read that turned into a write would fail at once, whatever the timeout
		"cache_size(-8000)", // 8 MB for each reader
	}, commonPragmas...)
)

// dsn begins with file: because else SQLite's driver drops parameters without
// a word. Of the two pools only the writer begins transactions that write;
// those take the lock at once, for one that takes it late cannot wait for it.
func dsn(path string, pragmas []string) string {
	q := url.Values{"_pragma": pragmas}
	if pragmas[0] == writerPragmas[0] {
		q.Set("_txlock", "immediate")
	}
	p := filepath.ToSlash(path)
	if filepath.VolumeName(path) != "" {
		p = "/" + p // file:///C:/…
	}
	u := url.URL{Path: p}
	name := u.EscapedPath()
	if strings.HasPrefix(name, "/") {
		name = "//" + name
	}
	return "file:" + name + "?" + q.Encode()
}

// lockWell makes SQLite's locks belong to its open file rather than to the
// process, where any other open and close of the file would drop them.
func lockWell() error {
	if _, err := sqlite.OFDLocking(true); err != nil && !errors.Is(err, sqlite.ErrOFDLockingUnavailable) {
		return err
	}
	return nil
}

// migrate brings the file to this program's schema. The usual case is one
// query; a new or older file is changed under a lock of its own, since two
// processes may open it at once and migrations must run once.
func (x *Index) migrate(ctx context.Context) error {
	version, err := x.version(ctx)
	if err != nil || version == schemaVersion {
		return err
	}
	lock, err := durable.LockExclusive(ctx, x.path+".lock")
	if err != nil {
		return err
	}
	err = x.migrateLocked(ctx)
	return errors.Join(err, lock.Unlock())
}

func (x *Index) migrateLocked(ctx context.Context) error {
	version, err := x.version(ctx)
	if err != nil || version == schemaVersion {
		return err
	}
	var mode string
	if err := x.write.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("write-ahead log is not available on this file system (journal mode %q)", mode)
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, x.write, files,
		goose.WithLogger(goose.NopLogger()), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	x.log.DebugContext(ctx, "migrating the index", "path", x.path, "from", version, "to", schemaVersion)
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate from schema %d to %d: %w", version, schemaVersion, err)
	}
	return nil
}

// version returns the file's schema version, 0 for an empty file.
func (x *Index) version(ctx context.Context) (int64, error) {
	var application, tables int64
	if err := x.write.QueryRowContext(ctx, `SELECT a.application_id,
		(SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE 'goose%' AND name NOT LIKE 'sqlite%')
		FROM pragma_application_id a`).Scan(&application, &tables); err != nil {
		return 0, err
	}
	if application == 0 && tables == 0 {
		return 0, nil
	}
	if application != applicationID {
		return 0, fmt.Errorf("%s is not an index of davit: %w", x.path, ErrDamaged)
	}
	var version sql.NullInt64
	err := x.write.QueryRowContext(ctx, "SELECT max(version_id) FROM goose_db_version WHERE is_applied").Scan(&version)
	if err != nil {
		return 0, err
	}
	if version.Int64 > schemaVersion {
		return 0, fmt.Errorf("%w: its schema is %d, this program knows %d", ErrNewer, version.Int64, schemaVersion)
	}
	return version.Int64, nil
}
