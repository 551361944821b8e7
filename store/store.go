// Package store keeps the original bytes of packages, cut into chunks, each
// chunk once, in age-encrypted packs in a bucket.
//
//	             Write                                 Read
//	files ▸ cut ▸ hash ▸ known? ▸ frame ▸ pack    list ▸ locate ▸ frame ▸ verify ▸ bytes
//	                       │                │            │
//	                     Index ◂── after ── Bucket ──────┘
//
// A stream of bytes (a file, or all files of a tree one after another) goes in
// through [Store.Write] and is known afterwards by its [chunk.Ref]: one chunk
// name, from which the list of its chunks, and so the stream, can be read back
// with [Store.Read] or [Store.Open]. Lists are stored as chunks themselves.
//
// The store also keeps small documents, each sealed with age, under names the
// caller chooses. Neither packs nor documents are ever changed once written.
//
// What lies in the bucket (FORMAT.md has the details):
//
//	config                 format, chunk parameters, the store's id
//	packs/ab/abcd…         chunks; named by the SHA-256 of the ciphertext
//	documents/KIND/NAME    sealed documents
//
// Everything is written in the order object, then index, so that a crash
// leaves at most a pack that no index knows. [Store.Check] adopts it and
// [Store.Collect] drops it. The index holds nothing that [Store.Reindex] could
// not find again in the bucket.
//
// A Store is safe for concurrent use, and several processes may use one
// bucket; only Collect must run alone.
package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"

	"davit/store/bucket"
	"davit/store/chunk"
	"davit/store/pack"
)

const (
	configName    = "config"
	configKind    = "davit-store"
	configVersion = 1
	cutterName    = "fastcdc-v1.0.0"

	// DefaultPackSize is the size at which a pack is closed, in bytes.
	DefaultPackSize = 64 << 20
)

var (
	// ErrNoStore: the bucket holds no store.
	ErrNoStore = errors.New("there is no davit store here")
	// ErrOccupied: Create found something in the bucket.
	ErrOccupied = errors.New("the place is not empty")
	// ErrVersion: the store was made by a newer davit.
	ErrVersion = errors.New("the store has a format this davit does not know; use a newer davit")
	// ErrDamaged: something stored is not what it was.
	ErrDamaged = errors.New("stored data is damaged")
	// ErrList: a chunk list contradicts itself, its size or its chunks. Every
	// byte is what its name says: whoever made the list is wrong.
	ErrList = errors.New("a chunk list contradicts itself")
	// ErrMissing: a chunk or document is not in the store.
	ErrMissing = errors.New("not in the store")
	// ErrTooManyChunks: a stream is longer than a store takes.
	ErrTooManyChunks = errors.New("too many chunks")
)

// MissingChunkError names a chunk that the store does not hold.
type MissingChunkError struct{ Name chunk.Name }

func (e *MissingChunkError) Error() string {
	return fmt.Sprintf("chunk %s is not in the store", e.Name)
}
func (e *MissingChunkError) Unwrap() error { return ErrMissing }

// Config is what a store says of itself in its bucket.
type Config struct {
	Davit   string       `json:"davit"`   // always "davit-store"
	Version int          `json:"version"` // of the store's format
	ID      string       `json:"id"`      // 16 random bytes in hex
	Cutter  string       `json:"cutter"`  // name of the chunking algorithm
	Chunk   chunk.Params `json:"chunk"`   // its parameters, in bytes
}

// Options for Create and Open. The zero value of all but Keys is good.
type Options struct {
	Keys     pack.Keys    // whom packs are encrypted to, and who opens them
	PackSize int64        // bytes at which a pack is closed; DefaultPackSize if 0
	Workers  int          // goroutines that hash and compress; one a processor if 0
	TempDir  string       // for lists that outgrow memory; os.TempDir if empty
	Log      *slog.Logger // nothing is logged if nil
}

// Store is an open chunk store.
type Store struct {
	bucket  bucket.Bucket
	index   Index
	keys    pack.Keys
	config  Config
	size    int64
	workers int
	temp    string
	log     *slog.Logger
	frames  *frameCache
	packs   *packCache
}

// Create makes a new store in an empty bucket. It is an error wrapping
// ErrOccupied when the bucket holds anything.
func Create(ctx context.Context, b bucket.Bucket, index Index, o Options) (*Store, error) {
	for info, err := range b.List(ctx, "") {
		if err != nil {
			return nil, fmt.Errorf("create store: %w", err)
		}
		return nil, fmt.Errorf("create store: %w: it holds %q", ErrOccupied, info.Name)
	}
	id := make([]byte, 16)
	rand.Read(id)
	config := Config{Davit: configKind, Version: configVersion, ID: hex.EncodeToString(id),
		Cutter: cutterName, Chunk: chunk.DefaultParams()}
	data, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("create store: %w", err)
	}
	if err := bucket.Put(ctx, b, configName, append(data, '\n')); err != nil {
		return nil, fmt.Errorf("create store: %w", err)
	}
	return Open(ctx, b, index, o)
}

// Open opens the store in a bucket.
func Open(ctx context.Context, b bucket.Bucket, index Index, o Options) (*Store, error) {
	data, err := bucket.Get(ctx, b, configName, 1<<16)
	if errors.Is(err, bucket.ErrNotExist) {
		return nil, fmt.Errorf("open store: %w", ErrNoStore)
	}
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	config, err := parseConfig(data)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{bucket: b, index: index, keys: o.Keys, config: config, size: o.PackSize,
		workers: o.Workers, temp: o.TempDir, log: o.Log}
	if s.size == 0 {
		s.size = DefaultPackSize
	}
	if s.workers <= 0 {
		s.workers = runtime.GOMAXPROCS(0)
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.packs = newPackCache(s, openPacks)
	s.frames = newFrameCache(s, frameCacheBytes)
	return s, nil
}

func parseConfig(data []byte) (Config, error) {
	// The version is read first and leniently, so that a newer store is
	// reported as newer and not as damaged.
	var head struct {
		Davit   string `json:"davit"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil || head.Davit != configKind {
		return Config{}, fmt.Errorf("%w: %q is not a store's config", ErrDamaged, configName)
	}
	if head.Version != configVersion {
		return Config{}, fmt.Errorf("%w (it has version %d)", ErrVersion, head.Version)
	}
	var config Config
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&config); err != nil {
		return Config{}, fmt.Errorf("%w: %q: %v", ErrDamaged, configName, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return Config{}, fmt.Errorf("%w: %q has something after its end", ErrDamaged, configName)
	}
	if config.Cutter != cutterName {
		return Config{}, fmt.Errorf("%w (it is cut with %q)", ErrVersion, config.Cutter)
	}
	if err := config.Chunk.Validate(); err != nil {
		return Config{}, fmt.Errorf("%w: %q: %v", ErrDamaged, configName, err)
	}
	return config, nil
}

// Close lets go of open packs. The bucket and the index stay open.
func (s *Store) Close() error {
	s.frames.drop()
	return s.packs.close()
}

// Config returns what the store says of itself.
func (s *Store) Config() Config { return s.config }

// Free returns the bytes that can still be written to the bucket, or false
// when the bucket cannot tell.
func (s *Store) Free(ctx context.Context) (int64, bool) {
	if sp, ok := s.bucket.(bucket.Spacer); ok {
		if n, err := sp.Free(ctx); err == nil {
			return n, true
		}
	}
	return 0, false
}

// PackObject returns the object name of a pack in the bucket.
func PackObject(name pack.Name) string {
	s := name.String()
	return packPrefix + s[:2] + "/" + s
}

const packPrefix = "packs/"
