package manifest

func (*Card) PayloadType() string { return PayloadCard }
func (*Card) Validate() error     { return nil }

func (*Release) PayloadType() string { return PayloadInToto }
func (*Release) Validate() error     { return nil }

func (*Bundle) PayloadType() string { return PayloadBundle }
func (*Bundle) Validate() error     { return nil }

func (*Receipt) PayloadType() string { return PayloadReceipt }
func (*Receipt) Validate() error     { return nil }

func (*Result) PayloadType() string { return PayloadInToto }
func (*Result) Validate() error     { return nil }

func (*Entry) PayloadType() string { return PayloadEntry }
func (*Entry) Validate() error     { return nil }
