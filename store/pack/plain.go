package pack

import (
	"bytes"
	"fmt"
	"io"

	"filippo.io/age"
)

// Encrypt encrypts data as it is, without compressing it: its size follows
// from the size of data alone, see EncryptedSize. `age -d` opens it.
func Encrypt(data []byte, k Keys) ([]byte, error) {
	var file bytes.Buffer
	file.Grow(len(data) + 4<<10)
	w, err := age.Encrypt(&file, k.recipients...)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	if _, err := w.Write(data); err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return file.Bytes(), nil
}

// EncryptedSize is the size of Encrypt's result for n bytes of data.
func EncryptedSize(n int64, k Keys) (int64, error) {
	empty, err := Encrypt(nil, k)
	if err != nil {
		return 0, err
	}
	return int64(len(empty)) - encryptedSize(0) + encryptedSize(n), nil
}

// Decrypt opens what Encrypt made. All of it is authenticated before any of it
// is returned.
func Decrypt(data []byte, k Keys) ([]byte, error) {
	const doing = "decrypt"
	if len(k.identities) == 0 {
		return nil, fmt.Errorf("%s: %w", doing, ErrWrongKey)
	}
	plain, err := age.Decrypt(bytes.NewReader(data), k.identities...)
	if err != nil {
		return nil, explain(doing, whyNotAge(data, err))
	}
	out, err := io.ReadAll(plain)
	if err != nil {
		return nil, explain(doing, err)
	}
	return out, nil
}
