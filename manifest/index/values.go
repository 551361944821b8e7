package index

import (
	"context"
	"database/sql"
	"time"

	"davit/manifest"
)

// Value is a parameter value in the site's overlay. A sensitive one stands in
// Sealed, any other in Value.
type Value struct {
	Project     string
	Environment string // "": every environment
	Name        string
	Value       string
	Sealed      string
	Sensitive   bool
	Set         time.Time
}

// Values lists the overlay of a project, or of all projects if it is "", by
// project, environment and name.
func (x *Index) Values(ctx context.Context, project string) ([]Value, error) {
	all, err := collect(ctx, x.read, func(r *sql.Rows, v *Value) error {
		return r.Scan(&v.Project, &v.Environment, &v.Name, &v.Value, &v.Sealed, &v.Sensitive, moment{&v.Set})
	}, `SELECT project, environment, name, value, sealed, sensitive, changed FROM overlay
		WHERE ?1 = '' OR project = ?1 ORDER BY project, environment, name`, project)
	return all, x.fail(ctx, "list values", err)
}

func (p *projection) valueSet(f *manifest.ValueSet) error {
	return p.exec(`INSERT INTO overlay (project, environment, name, value, sealed, sensitive, changed) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET value = excluded.value, sealed = excluded.sealed, sensitive = excluded.sensitive, changed = excluded.changed`,
		f.Project, f.Environment, f.Name, f.Value, f.Sealed, f.Sensitive, p.at)
}

func (p *projection) valueUnset(f *manifest.ValueUnset) error {
	n, err := p.changed("DELETE FROM overlay WHERE project = ? AND environment = ? AND name = ?", f.Project, f.Environment, f.Name)
	if err == nil && n == 0 {
		err = contradict("%s is not set", f.Name)
	}
	return err
}
