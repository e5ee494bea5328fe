internal import HTTPTypes

extension HTTPFields {
    /// What the subscript returns, at a fraction of its cost where a name occurs once or not at all, as in almost all
    /// requests.
    func value(_ name: HTTPField.Name) -> String? {
        var found: String?
        for field in self where field.name == name {
            guard found == nil else { return self[name] }
            found = field.value
        }
        return found
    }
}
