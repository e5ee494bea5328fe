extension OpenAPIDescription {
    /// What the paths share.
    static let components = #"""
        components:
          securitySchemes:
            bearer:
              type: http
              scheme: bearer
              description: |
                Needed once the service has a token for what is asked (HTTP_TOKEN, HTTP_TOKENS_PATH, HTTP_OPERATIONS_TOKEN).
            basic:
              type: http
              scheme: basic
              description: The token as password; the user is not looked at.
            clickHouseKey: { type: apiKey, in: header, name: X-ClickHouse-Key, description: The token. }
            password: { type: apiKey, in: query, name: password, description: The token. }
          parameters:
            ack:
              name: ack
              in: query
              description: Answers once the events are in ClickHouse or dead letters, instead of once they are on stable storage.
              schema: { type: string, enum: [inserted] }
            timeout:
              name: timeout
              in: query
              description: How long to wait for ack=inserted, with which it goes; 5m at most. 10s if not given.
              schema: { type: string, pattern: "^[0-9]{1,9}(ms|s|m)$" }
              example: 500ms
            onError:
              name: on_error
              in: query
              description: Accepts the good events and makes dead letters of the bad ones, instead of refusing all.
              schema: { type: string, enum: [dead_letter] }
            idempotencyKey:
              name: Idempotency-Key
              in: header
              description: A request that comes again with its key gets the answer to the first one, and adds nothing.
              schema: { type: string, minLength: 1, maxLength: 255, pattern: "^[!#-\\[\\]-~]+$" }
            contentEncoding:
              name: Content-Encoding
              in: header
              description: How the body is compressed.
              schema: { type: string, enum: [identity, gzip, deflate, zstd] }
            ceSpecVersion:
              name: ce-specversion
              in: header
              description: |
                Always 1.0. It or ce-id says that the body is the data of a CloudEvent in binary mode, which has all four.
              schema: { type: string }
            ceID:
              name: ce-id
              in: header
              description: The event's id, 1,024 bytes at most.
              schema: { type: string }
            ceSource: { name: ce-source, in: header, schema: { type: string } }
            ceType: { name: ce-type, in: header, schema: { type: string } }
            traceparent:
              name: traceparent
              in: header
              description: >-
                W3C Trace Context. Kept with the events; what is not valid is ignored. In CloudEvents' binary mode
                ce-traceparent comes first.
              schema: { type: string }
              example: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
            stream:
              name: stream
              in: query
              description: Only of this table.
              schema: { type: string, minLength: 1 }
            kind:
              name: kind
              in: query
              description: Only of this kind of error.
              schema: { type: string, minLength: 1 }
            since:
              name: since
              in: query
              description: Only from this time on; a date and time, a date, or milliseconds since 1970 UTC.
              schema: &time
                anyOf:
                  - { type: integer, minimum: 0, maximum: 9223372036854775807 }
                  - type: string
                    pattern: "^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])(T([01][0-9]|2[0-3])(:[0-5][0-9]){2}(\\.[0-9]{3})?Z)?$"
            until:
              name: until
              in: query
              description: Only before this time.
              schema: *time
          headers:
            RetryAfter: { description: Seconds., required: true, schema: { type: string, pattern: "^[0-9]+$" } }
            Replayed:
              description: The answer is that to an earlier request with the same Idempotency-Key.
              schema: { const: "true" }
          responses:
            Accepted:
              description: The events are on stable storage.
              headers: { Idempotency-Replayed: { $ref: "#/components/headers/Replayed" } }
              content:
                application/json:
                  schema: { $ref: "#/components/schemas/Acceptance" }
            Inserted:
              description: All events are in ClickHouse or dead letters (ack=inserted).
              headers: { Idempotency-Replayed: { $ref: "#/components/headers/Replayed" } }
              content:
                application/json:
                  schema: { $ref: "#/components/schemas/Insertion" }
            NotInsertedYet:
              description: The events are on stable storage and will be inserted; they were not when the time was up.
              headers: { Idempotency-Replayed: { $ref: "#/components/headers/Replayed" } }
              content: &problem
                application/problem+json:
                  schema: { $ref: "#/components/schemas/Problem" }
            BadRequest:
              description: A parameter, a header or an event is wrong; nothing was done.
              content: *problem
            Unauthorized:
              description: A token is needed.
              headers: { WWW-Authenticate: { required: true, schema: { type: string } } }
              content: *problem
            Forbidden:
              description: The token is wrong, or may not do this.
              headers: { WWW-Authenticate: { schema: { type: string } } }
              content: *problem
            MethodNotAllowed:
              description: The path does not take this method.
              headers: { Allow: { required: true, schema: { type: string } } }
              content:
                application/problem+json:
                  schema: { $ref: "#/components/schemas/Problem" }
                text/plain:
                  schema: { $ref: "#/components/schemas/Exception" }
            UnsupportedMediaType:
              description: The type or the encoding of the body.
              headers: { Accept-Encoding: { schema: { type: string } } }
              content: *problem
            Unavailable:
              description: Not now; the same request may succeed later.
              headers: { Retry-After: { $ref: "#/components/headers/RetryAfter" } }
              content: *problem
            Problem:
              description: What is wrong.
              content: *problem
            Exception:
              description: What is wrong, in ClickHouse's form.
              headers:
                X-ClickHouse-Exception-Code: { required: true, schema: { type: string, pattern: "^[0-9]+$" } }
                X-ClickHouse-Server-Display-Name: { schema: { type: string } }
                X-ClickHouse-Query-Id: { schema: { type: string } }
                Retry-After: { schema: { type: string, pattern: "^[0-9]+$" } }
                WWW-Authenticate: { schema: { type: string } }
              content:
                text/plain:
                  schema: { $ref: "#/components/schemas/Exception" }
          schemas:
            Events:
              oneOf:
                - type: object
                - type: array
                  minItems: 1
                  items: { type: object }
            CloudEvent:
              type: object
              required: [specversion, id, source, type]
              properties:
                specversion: { const: "1.0" }
                id: { type: string, minLength: 1, maxLength: 1024 }
                source: { type: string, minLength: 1 }
                type: { type: string, minLength: 1 }
            EventError:
              type: object
              required: [index, byte_offset, kind, detail]
              additionalProperties: false
              properties:
                index: { type: integer, minimum: 0, description: "The event's number in the request, from 0." }
                byte_offset: { type: integer, minimum: 0 }
                kind: { type: string }
                detail: { type: string }
            Acceptance:
              type: object
              required: [accepted, stream]
              additionalProperties: false
              properties:
                accepted: { type: integer, minimum: 0 }
                stream: { type: string }
                first_sequence: { type: integer, minimum: 0, description: Missing where nothing was accepted. }
                last_sequence: { type: integer, minimum: 0 }
                dead_lettered: { type: integer, minimum: 0, description: With on_error=dead_letter. }
                dead_letter_ids: { type: array, maxItems: 20, items: { type: string } }
                errors: { type: array, maxItems: 20, items: { $ref: "#/components/schemas/EventError" } }
            Insertion:
              type: object
              required: [accepted, stream, inserted, dead_lettered, dead_letter_ids]
              additionalProperties: false
              properties:
                accepted: { type: integer, minimum: 0 }
                stream: { type: string }
                first_sequence: { type: integer, minimum: 0, description: Missing where nothing was accepted. }
                last_sequence: { type: integer, minimum: 0 }
                dead_lettered: { type: integer, minimum: 0, description: With on_error=dead_letter. }
                dead_letter_ids: { type: array, maxItems: 20, items: { type: string } }
                errors: { type: array, maxItems: 20, items: { $ref: "#/components/schemas/EventError" } }
                inserted: { type: integer, minimum: 0 }
            Problem:
              type: object
              required: [type, title, status, kind, detail]
              additionalProperties: false
              properties:
                accepted: { type: integer, minimum: 0 }
                stream: { type: string }
                first_sequence: { type: integer, minimum: 0, description: Missing where nothing was accepted. }
                last_sequence: { type: integer, minimum: 0 }
                dead_lettered: { type: integer, minimum: 0, description: With on_error=dead_letter. }
                dead_letter_ids: { type: array, maxItems: 20, items: { type: string } }
                errors: { type: array, maxItems: 20, items: { $ref: "#/components/schemas/EventError" } }
                type: { const: "about:blank" }
                title: { type: string }
                status: { type: integer, minimum: 400, maximum: 599 }
                kind: { type: string, description: A stable name for programs. }
                detail: { type: string }
                error_count: { type: integer, minimum: 1, description: Bad events. }
            Exception:
              type: string
              pattern: "^Code: [0-9]+\\. DB::Exception: [\\s\\S]*"
            Change:
              type: object
              required: [changed, not_retryable]
              additionalProperties: false
              properties:
                changed: { type: integer, minimum: 0 }
                not_retryable: { type: integer, minimum: 0, description: Letters that can't be sent again, ever. }
            DeadLetter:
              type: object
              required: [id, state, event_id, failed_at, stream, table, error, source]
              properties:
                id: { type: integer, minimum: 0 }
                state: { enum: [kept, retried] }
                forwarded: { type: boolean }
                event_id: { type: string }
                failed_at: { type: string, format: date-time }
                stream: { type: string }
                table: { type: string }
                error:
                  type: object
                  required: [kind, message]
                  properties:
                    kind: { type: string }
                    message: { type: string }
                    clickhouse_code: { type: integer }
                    http_status: { type: integer }
                    attempts: { type: integer }
                source:
                  type: object
                  required: [kind]
                  properties:
                    kind: { enum: [http, kafka] }
                    topic: { type: string }
                    partition: { type: integer }
                    offset: { type: integer }
                    key: { type: string }
                    headers: { type: object, additionalProperties: { type: string } }
                    timestamp: { type: string, format: date-time }
                    traceparent: { type: string, description: Of an HTTP request. A Kafka message's is a header. }
                payload: { type: string, description: Not in lists. }
                payload_encoding: { enum: [utf8, base64] }
            DeadLetterPage:
              type: object
              required: [dead_letters]
              additionalProperties: false
              properties:
                dead_letters: { type: array, items: { $ref: "#/components/schemas/DeadLetter" } }
                next_after: { type: integer, minimum: 0, description: Give it as `after` for the next page. }
            Health:
              type: object
              required: [status, components]
              additionalProperties: false
              properties:
                status: { enum: [alive, not alive, ready, not ready] }
                components:
                  type: array
                  items:
                    type: object
                    required: [component, healthy, required, detail]
                    additionalProperties: false
                    properties:
                      component: { type: string }
                      healthy: { type: boolean }
                      required: { type: boolean, description: Whether the answer depends on it. }
                      detail: { type: string }
            Status:
              type: object
              description: Members may be added.
              required:
                [version, host, time, uptime_seconds, journal, sources, streams, dead_letters, clickhouse, kafka]
              properties:
                version: { type: string }
                host: { type: string, description: The machine's or the container's name. }
                time: { type: string, format: date-time, description: When this was so. }
                uptime_seconds: { type: number, minimum: 0 }
                journal:
                  type: object
                  required: [id, stored_bytes, max_bytes, disk_free_bytes, file_bytes, dead_letters]
                  properties:
                    id: { type: string }
                    stored_bytes: { type: integer, minimum: 0 }
                    max_bytes: { type: integer, minimum: 1, description: JOURNAL_MAX_BYTES. }
                    disk_free_bytes: { type: [integer, "null"], minimum: 0, description: Null if it is not known. }
                    file_bytes: { type: integer }
                    dead_letters: { type: integer }
                    refusing: { type: string, description: Why no events are accepted. }
                sources:
                  type: array
                  description: What came in since the start of the process; as in ingest_events_total.
                  items:
                    type: object
                    required: [source, stream, accepted_events, rejected_events, dead_letter_events]
                    properties:
                      source: { enum: [http, kafka] }
                      stream: { type: string }
                      accepted_events: { type: integer, minimum: 0 }
                      rejected_events:
                        type: integer
                        minimum: 0
                        description: Bad, or there was no room; nothing of them is kept.
                      dead_letter_events: { type: integer, minimum: 0, description: Bad, and kept as dead letters. }
                streams:
                  type: array
                  items:
                    type: object
                    required:
                      - stream
                      - state
                      - pending_events
                      - oldest_event_age_seconds
                      - inserted_events
                      - dead_letters
                      - next_sequence
                      - flushed_position
                    properties:
                      stream: { type: string }
                      state: { type: string }
                      reason: { type: string }
                      pending_events: { type: integer }
                      oldest_event_age_seconds:
                        type: [number, "null"]
                        minimum: 0
                        description: Null if nothing is pending.
                      inserted_events: { type: integer, minimum: 0, description: Since the start of the process. }
                      dead_letters: { type: integer, minimum: 0, description: Since the start of the process. }
                      next_sequence: { type: integer }
                      flushed_position: { type: integer }
                      stored_bytes: { type: integer }
                      inserts_in_flight: { type: integer }
                dead_letters:
                  type: object
                  required: [stored, stored_bytes, store_full, forwarding, awaiting_forwarding]
                clickhouse:
                  type: object
                  required: [healthy, detail]
                  properties:
                    healthy: { type: boolean }
                    detail: { type: string }
                kafka:
                  type: object
                  required: [enabled, healthy, detail, partitions]

        """#
}
