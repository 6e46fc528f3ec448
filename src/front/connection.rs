//! One task per connection.
