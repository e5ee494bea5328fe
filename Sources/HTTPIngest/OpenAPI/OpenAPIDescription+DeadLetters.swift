extension OpenAPIDescription {
    /// Paths of dead letters and held streams.
    static let deadLetterPaths = #"""
          /v1/dead-letters:
            get:
              tags: [dead letters]
              operationId: listDeadLetters
              summary: Lists dead letters, without their payloads, in order of their numbers or the newest first.
              security: *optional
              parameters:
                - $ref: "#/components/parameters/stream"
                - $ref: "#/components/parameters/kind"
                - $ref: "#/components/parameters/since"
                - $ref: "#/components/parameters/until"
                - name: after
                  in: query
                  description: Letters up to this number are left out.
                  schema: { type: integer, minimum: 0, maximum: 18446744073709551615 }
                - name: limit
                  in: query
                  schema: { type: integer, minimum: 1, maximum: 1000, default: 100 }
                - name: order
                  in: query
                  description: With `newest` those with the highest numbers come, the newest first, and not with `after`.
                  schema: { enum: [oldest, newest], default: oldest }
              responses:
                "200":
                  description: A page of letters.
                  content:
                    application/json:
                      schema: { $ref: "#/components/schemas/DeadLetterPage" }
                "400": { $ref: "#/components/responses/BadRequest" }
                "401": { $ref: "#/components/responses/Unauthorized" }
                "403": { $ref: "#/components/responses/Forbidden" }
                "405": { $ref: "#/components/responses/MethodNotAllowed" }
                "406": { $ref: "#/components/responses/Problem" }
                "408": { $ref: "#/components/responses/Problem" }
                "431": { $ref: "#/components/responses/Problem" }
                "503": { $ref: "#/components/responses/Unavailable" }
            head:
              tags: [dead letters]
              operationId: headDeadLetters
              summary: As GET, without the body.
              security: *optional
              responses: &headResponses
                "200": { description: There they are. }
                "400": { description: A parameter is wrong. }
                "401": { description: A token is needed. }
                "403": { description: The token is wrong or may not do this. }
                "406": { description: The header Accept excludes the answer. }
                "408": { description: The request did not come in time. }
                "431": { description: The request's head is too large. }
                "503": { description: The journal can't be read now. }
            delete:
              tags: [dead letters]
              operationId: discardDeadLetters
              summary: Deletes dead letters for good.
              description: All of them only by `all=true`; a filter must not be forgotten.
              security: *optional
              parameters: &selection
                - $ref: "#/components/parameters/stream"
                - $ref: "#/components/parameters/kind"
                - $ref: "#/components/parameters/since"
                - $ref: "#/components/parameters/until"
                - name: all
                  in: query
                  description: Instead of a filter.
                  schema: { type: string, enum: ["true"] }
              responses: &changeResponses
                "200":
                  description: How many.
                  content:
                    application/json:
                      schema: { $ref: "#/components/schemas/Change" }
                "400": { $ref: "#/components/responses/BadRequest" }
                "401": { $ref: "#/components/responses/Unauthorized" }
                "403": { $ref: "#/components/responses/Forbidden" }
                "405": { $ref: "#/components/responses/MethodNotAllowed" }
                "406": { $ref: "#/components/responses/Problem" }
                "408": { $ref: "#/components/responses/Problem" }
                "431": { $ref: "#/components/responses/Problem" }
                "503": { $ref: "#/components/responses/Unavailable" }
            options: *options
          /v1/dead-letters/retry:
            post:
              tags: [dead letters]
              operationId: retryDeadLetters
              summary: Sends dead letters again, each exactly as it was.
              security: *optional
              parameters: *selection
              responses: *changeResponses
            options: *options
          /v1/dead-letters/{id}:
            parameters: &letterID
              - name: id
                in: path
                required: true
                description: The letter's number.
                schema: { type: integer, minimum: 0, maximum: 18446744073709551615 }
            get:
              tags: [dead letters]
              operationId: getDeadLetter
              summary: A dead letter with its payload.
              security: *optional
              responses:
                "400": { $ref: "#/components/responses/BadRequest" }
                "401": { $ref: "#/components/responses/Unauthorized" }
                "403": { $ref: "#/components/responses/Forbidden" }
                "405": { $ref: "#/components/responses/MethodNotAllowed" }
                "406": { $ref: "#/components/responses/Problem" }
                "408": { $ref: "#/components/responses/Problem" }
                "431": { $ref: "#/components/responses/Problem" }
                "503": { $ref: "#/components/responses/Unavailable" }
                "200":
                  description: The letter.
                  content:
                    application/json:
                      schema: { $ref: "#/components/schemas/DeadLetter" }
                "404": { $ref: "#/components/responses/Problem" }
            head:
              tags: [dead letters]
              operationId: headDeadLetter
              summary: As GET, without the body.
              security: *optional
              responses:
                "200": { description: There they are. }
                "400": { description: A parameter is wrong. }
                "401": { description: A token is needed. }
                "403": { description: The token is wrong or may not do this. }
                "406": { description: The header Accept excludes the answer. }
                "408": { description: The request did not come in time. }
                "431": { description: The request's head is too large. }
                "503": { description: The journal can't be read now. }
                "404": { description: There is no such letter. }
            delete:
              tags: [dead letters]
              operationId: discardDeadLetter
              summary: Deletes the letter for good.
              security: *optional
              responses: &oneChangeResponses
                "200":
                  description: How many.
                  content:
                    application/json:
                      schema: { $ref: "#/components/schemas/Change" }
                "400": { $ref: "#/components/responses/BadRequest" }
                "401": { $ref: "#/components/responses/Unauthorized" }
                "403": { $ref: "#/components/responses/Forbidden" }
                "405": { $ref: "#/components/responses/MethodNotAllowed" }
                "406": { $ref: "#/components/responses/Problem" }
                "408": { $ref: "#/components/responses/Problem" }
                "431": { $ref: "#/components/responses/Problem" }
                "503": { $ref: "#/components/responses/Unavailable" }
                "404": { $ref: "#/components/responses/Problem" }
                "409": { $ref: "#/components/responses/Problem" }
            options: *options
          /v1/dead-letters/{id}/retry:
            parameters: *letterID
            post:
              tags: [dead letters]
              operationId: retryDeadLetter
              summary: Sends the letter again, exactly as it was.
              security: *optional
              responses: *oneChangeResponses
            options: *options
          /v1/streams/retry:
            post:
              tags: [dead letters]
              operationId: retryStreams
              summary: All streams that are held or in a pause try again at once.
              security: *optional
              responses:
                "202":
                  description: They will.
                  content:
                    application/json:
                      schema:
                        type: object
                        required: [retrying]
                        additionalProperties: false
                        properties:
                          stream: { type: string }
                          retrying: { const: true }
                "400": { $ref: "#/components/responses/BadRequest" }
                "401": { $ref: "#/components/responses/Unauthorized" }
                "403": { $ref: "#/components/responses/Forbidden" }
                "405": { $ref: "#/components/responses/MethodNotAllowed" }
                "406": { $ref: "#/components/responses/Problem" }
                "408": { $ref: "#/components/responses/Problem" }
                "431": { $ref: "#/components/responses/Problem" }
            options: *options
          /v1/streams/{table}/retry:
            parameters:
              - name: table
                in: path
                required: true
                description: The stream's table, which is its name.
                schema: { type: string, minLength: 1 }
                example: events
            post:
              tags: [dead letters]
              operationId: retryStream
              summary: A stream that is held or in a pause tries again at once.
              security: *optional
              responses:
                "202":
                  description: They will.
                  content:
                    application/json:
                      schema:
                        type: object
                        required: [retrying]
                        additionalProperties: false
                        properties:
                          stream: { type: string }
                          retrying: { const: true }
                "400": { $ref: "#/components/responses/BadRequest" }
                "401": { $ref: "#/components/responses/Unauthorized" }
                "403": { $ref: "#/components/responses/Forbidden" }
                "405": { $ref: "#/components/responses/MethodNotAllowed" }
                "406": { $ref: "#/components/responses/Problem" }
                "408": { $ref: "#/components/responses/Problem" }
                "431": { $ref: "#/components/responses/Problem" }
                "404": { $ref: "#/components/responses/Problem" }
            options: *options

        """#
}
