package pack

import "io"

// OpenPlain opens what is inside age, so that fuzzing gets past it.
func OpenPlain(plain io.ReaderAt, size int64) (*Reader, error) { return openPlain(plain, size) }

// AppendTail appends table and footer.
func AppendTail(b []byte, t *Table) []byte { return appendTail(b, t) }

// AppendRaw appends a frame of uncompressed blocks.
func AppendRaw(dst, plain []byte) []byte { return appendRaw(dst, plain) }

// Decode decompresses a frame.
func Decode(data []byte, size int, buf []byte) ([]byte, error) { return decode(data, size, buf) }
