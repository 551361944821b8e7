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

// NewEncryptor returns a writer that encrypts to dst as Encrypt does, for what
// is too long for memory. Its Close ends the age file and leaves dst open.
func NewEncryptor(dst io.Writer, k Keys) (io.WriteCloser, error) {
	w, err := age.Encrypt(dst, k.recipients...)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return w, nil
}

// NewDecryptor returns a reader of what NewEncryptor or Encrypt made. Every
// byte it gives is authenticated; that none is missing at the end is known
// only when it returns io.EOF.
func NewDecryptor(src io.Reader, k Keys) (io.Reader, error) {
	const doing = "decrypt"
	if len(k.identities) == 0 {
		return nil, fmt.Errorf("%s: %w", doing, ErrWrongKey)
	}
	plain, err := age.Decrypt(src, k.identities...)
	if err != nil {
		return nil, explain(doing, err)
	}
	return &decryptor{plain}, nil
}

type decryptor struct{ r io.Reader }

func (d *decryptor) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if err != nil && err != io.EOF {
		err = explain("decrypt", err)
	}
	return n, err
}
